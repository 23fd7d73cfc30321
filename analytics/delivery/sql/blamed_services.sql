-- Whose deployments the ids are that incidents name as their cause. Source: metrics.md section 2, rule 1.
SELECT DISTINCT known.name AS name, known.service AS service
FROM (
    SELECT source_id AS name, service FROM matched_attempts
    UNION ALL
    SELECT run_id AS name, service FROM matched_attempts
) AS known
JOIN blamed_names AS blamed ON blamed.name = known.name

-- Which repositories, by their names in small letters, the deployments of each service touch: its own, the one of its
-- artifact by record or by provenance, and those of its further revisions. Source: metrics.md section 1.
SELECT DISTINCT service, folded
FROM (
    SELECT service, lower(repository) AS folded FROM matched_attempts
    UNION ALL
    SELECT service, lower(artifact_repository) AS folded FROM matched_attempts WHERE artifact_repository IS NOT NULL
    UNION ALL
    SELECT attempts.service AS service, lower(proven.repository) AS folded
    FROM matched_attempts AS attempts
    JOIN proven_repositories AS proven ON proven.digest = lower(attempts.digest)
    UNION ALL
    SELECT service, lower(revision.repository) AS folded FROM attempt_revisions
) AS touched

-- The names by which checks may speak of a deployment: its id, its run, its key. An id of a deployment is meant before
-- a run that happens to have the same one.
WITH named AS (
    SELECT DISTINCT service, deployment_key, name, preference
    FROM (
        SELECT service, deployment_key, source_deployment_id AS name, 0 AS preference
        FROM deployment_attempts
        WHERE source_deployment_id IS NOT NULL
        UNION ALL
        SELECT service, deployment_key, run_id AS name, 1 AS preference
        FROM deployment_runs
        UNION ALL
        SELECT service, deployment_key, deployment_key AS name, 2 AS preference
        FROM service_deployments
    ) AS stated
), compared AS (
    SELECT service, deployment_key, name, preference, min(preference) OVER (PARTITION BY name) AS preferred
    FROM named
)
SELECT service, deployment_key, name
FROM compared
WHERE preference = preferred

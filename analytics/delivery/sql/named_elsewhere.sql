-- Names in checks that mean something outside production: a deployment to another environment, a run, a tag, a release.
SELECT DISTINCT name
FROM (
    SELECT deployment_id AS name FROM deployments
    UNION ALL
    SELECT runs.run_id AS name
    FROM pipeline_runs AS runs
    JOIN (SELECT DISTINCT deployment_id FROM checks) AS asked ON asked.deployment_id = runs.run_id
    UNION ALL
    SELECT name FROM tags
    UNION ALL
    SELECT tag AS name FROM releases
) AS known

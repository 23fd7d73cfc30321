-- Which pipeline runs deployed what.
SELECT DISTINCT service, deployment_key, repository, run_id
FROM deployment_attempts
WHERE run_id IS NOT NULL

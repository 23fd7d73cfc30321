-- What looked at a production deployment: checks that name it by its id, its run or its key, and jobs of its own run
-- that the settings' rule names. A check that names nothing known has no service. Source: metrics.md section 4, row 9.
WITH named AS (
    SELECT DISTINCT service, deployment_key, source_deployment_id AS name, 0 AS rank
    FROM deployment_attempts WHERE source_deployment_id IS NOT NULL
    UNION
    SELECT DISTINCT service, deployment_key, run_id, 1 FROM deployment_attempts WHERE run_id IS NOT NULL
    UNION
    SELECT service, deployment_key, deployment_key, 2 FROM service_deployments
), best AS (
    -- An id of a deployment is meant before a run that happens to have the same one.
    SELECT service, deployment_key, name FROM named QUALIFY rank = min(rank) OVER (PARTITION BY name)
), shipped AS (
    SELECT service, deployment_key, outcome, coalesce(finished_at, created_at) AS finished_at FROM service_deployments
), named_elsewhere AS (
    SELECT deployment_id AS name FROM deployments
    UNION SELECT run_id FROM pipeline_runs SEMI JOIN checks ON checks.deployment_id = pipeline_runs.run_id
    UNION SELECT name FROM tags
    UNION SELECT tag FROM releases
), looked AS (
    SELECT best.service, best.deployment_key, checks.deployment_id, 'check' AS origin_kind, checks.name, checks.kind,
           checks.conclusion, checks.completed_at,
           lower(checks.conclusion) IN (SELECT word FROM passed_words) AS passed,
           checks.kind IN (SELECT kind FROM verifying_kinds) AS verifies
    FROM checks
    JOIN best ON best.name = checks.deployment_id
    UNION ALL
    SELECT DISTINCT attempts.service, attempts.deployment_key, attempts.source_deployment_id, 'job', jobs.name, 'job',
           jobs.outcome, jobs.completed_at, jobs.outcome = 'success', true
    FROM deployment_attempts AS attempts
    JOIN job_times AS jobs
      ON jobs.run_id = attempts.run_id AND lower(jobs.repository) = lower(attempts.repository)
    JOIN verifying_jobs ON verifying_jobs.name = jobs.name
    WHERE jobs.completed_at IS NOT NULL
)
SELECT looked.service,
       looked.deployment_key,
       looked.deployment_id,
       looked.origin_kind,
       looked.name,
       looked.kind,
       looked.conclusion,
       looked.completed_at,
       local_day(looked.completed_at) AS day,
       CASE WHEN NOT looked.verifies THEN 'other_kind'
            WHEN shipped.outcome <> 'success' THEN 'deployment_not_successful'
            WHEN looked.completed_at < shipped.finished_at THEN 'before_deployment'
            WHEN NOT looked.passed THEN 'not_passed' END AS set_aside
FROM looked
JOIN shipped ON shipped.service = looked.service AND shipped.deployment_key = looked.deployment_key
CROSS JOIN params
WHERE looked.completed_at <= params.now
UNION ALL
SELECT '', NULL, checks.deployment_id, 'check', checks.name, checks.kind, checks.conclusion, checks.completed_at,
       local_day(checks.completed_at), 'no_such_deployment'
FROM checks
CROSS JOIN params
ANTI JOIN best ON best.name = checks.deployment_id
ANTI JOIN named_elsewhere ON named_elsewhere.name = checks.deployment_id
WHERE checks.completed_at <= params.now

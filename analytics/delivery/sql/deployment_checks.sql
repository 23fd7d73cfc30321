-- What looked at a production deployment: checks that name it by its id, its run or its key, and jobs of its own run
-- that the settings' rule names. A check that names nothing known has no service. Source: metrics.md section 4, row 9.
WITH looked AS (
    SELECT named.service AS service, named.deployment_key AS deployment_key, checks.deployment_id AS deployment_id,
           'check' AS origin_kind, checks.name AS name, checks.kind AS kind, checks.conclusion AS conclusion,
           checks.completed_at AS completed_at, words.word IS NOT NULL AS passed, kinds.kind IS NOT NULL AS verifies
    FROM checks
    JOIN named_deployments AS named ON named.name = checks.deployment_id
    LEFT JOIN passed_words AS words ON words.word = lower(checks.conclusion)
    LEFT JOIN verifying_kinds AS kinds ON kinds.kind = checks.kind
    UNION ALL
    SELECT DISTINCT attempts.service AS service, attempts.deployment_key AS deployment_key,
           attempts.source_deployment_id AS deployment_id, 'job' AS origin_kind, jobs.name AS name, 'job' AS kind,
           jobs.outcome AS conclusion, jobs.completed_at AS completed_at, jobs.outcome = 'success' AS passed,
           true AS verifies
    FROM deployment_attempts AS attempts
    JOIN job_times AS jobs
      ON jobs.run_id = attempts.run_id AND lower(jobs.repository) = lower(attempts.repository)
    JOIN verifying_jobs AS wanted ON wanted.name = jobs.name
    WHERE jobs.completed_at IS NOT NULL
)
SELECT looked.service AS service,
       looked.deployment_key AS deployment_key,
       looked.deployment_id AS deployment_id,
       looked.origin_kind AS origin_kind,
       looked.name AS name,
       looked.kind AS kind,
       looked.conclusion AS conclusion,
       looked.completed_at AS completed_at,
       local_day(looked.completed_at) AS day,
       CASE WHEN NOT looked.verifies THEN 'other_kind'
            WHEN shipped.outcome <> 'success' THEN 'deployment_not_successful'
            WHEN looked.completed_at < coalesce(shipped.finished_at, shipped.created_at) THEN 'before_deployment'
            WHEN NOT looked.passed THEN 'not_passed' END AS set_aside
FROM looked
JOIN service_deployments AS shipped
  ON shipped.service = looked.service AND shipped.deployment_key = looked.deployment_key
CROSS JOIN params
WHERE looked.completed_at <= params.now
UNION ALL
SELECT '' AS service,
       CAST(NULL AS String) AS deployment_key,
       checks.deployment_id AS deployment_id,
       'check' AS origin_kind,
       checks.name AS name,
       checks.kind AS kind,
       checks.conclusion AS conclusion,
       checks.completed_at AS completed_at,
       local_day(checks.completed_at) AS day,
       'no_such_deployment' AS set_aside
FROM checks
CROSS JOIN params
LEFT JOIN named_deployments AS named ON named.name = checks.deployment_id
LEFT JOIN named_elsewhere AS elsewhere ON elsewhere.name = checks.deployment_id
WHERE checks.completed_at <= params.now AND named.name IS NULL AND elsewhere.name IS NULL

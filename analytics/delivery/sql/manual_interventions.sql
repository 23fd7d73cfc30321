-- What somebody did by hand to get a release out: each attempt of a deployment's run after the first, each gate that
-- was overridden, each hotfix. An override belongs to the deployment of its run, else to the only service of its
-- repository. Source: metrics.md section 4, row 14.
WITH again AS (
    SELECT service, deployment_key, repository, run_id, attempt, created_at
    FROM deployment_attempts WHERE attempt > 1
    UNION ALL
    SELECT runs.service AS service, runs.deployment_key AS deployment_key, attempts.repository AS repository,
           attempts.run_id AS run_id, attempts.attempt AS attempt, attempts.created_at AS created_at
    FROM run_attempts AS attempts
    JOIN deployment_runs AS runs
      ON runs.run_id = attempts.run_id AND lower(runs.repository) = lower(attempts.repository)
    WHERE attempts.attempt > 1
), reruns AS (
    SELECT service, deployment_key, min(repository) AS repository, min(run_id) AS run_id, attempt,
           min(created_at) AS created_at
    FROM again
    GROUP BY service, deployment_key, attempt
), overrides AS (
    SELECT results.repository AS stated, names.known AS known, names.only_service AS only_service,
           results.run_id AS run_id, results.gate AS gate, results.at AS judged_at
    FROM gate_results AS results
    JOIN gate_repositories AS names ON names.seen = results.repository
    CROSS JOIN params
    WHERE results.outcome = 'overridden' AND results.at <= params.now
)
SELECT reruns.service AS service, reruns.deployment_key AS deployment_key, 'rerun' AS kind,
       reruns.repository AS repository, reruns.run_id AS run_id, reruns.attempt AS attempt,
       'attempt ' || CAST(reruns.attempt AS String) AS detail, reruns.created_at AS happened_at, deployed.day AS day,
       CAST(NULL AS String) AS excluded
FROM reruns
JOIN service_deployments AS deployed
  ON deployed.service = reruns.service AND deployed.deployment_key = reruns.deployment_key
UNION ALL
SELECT service, deployment_key, 'hotfix' AS kind, repository, CAST(NULL AS String) AS run_id,
       CAST(NULL AS BIGINT) AS attempt, rework_evidence AS detail, finished_at AS happened_at, day,
       CAST(NULL AS String) AS excluded
FROM service_deployments
WHERE rework = 'hotfix' AND outcome = 'success'
UNION ALL
SELECT coalesce(runs.service, overrides.only_service, '') AS service,
       runs.deployment_key AS deployment_key,
       'override' AS kind,
       overrides.stated AS repository,
       overrides.run_id AS run_id,
       CAST(NULL AS BIGINT) AS attempt,
       'gate ' || overrides.gate AS detail,
       overrides.judged_at AS happened_at,
       local_day(overrides.judged_at) AS day,
       CASE WHEN runs.service IS NOT NULL OR overrides.only_service IS NOT NULL THEN NULL
            WHEN overrides.known THEN 'shared_repository'
            ELSE 'no_catalog_entry' END AS excluded
FROM overrides
LEFT JOIN deployment_runs AS runs
  ON runs.run_id = overrides.run_id AND lower(runs.repository) = lower(overrides.stated)

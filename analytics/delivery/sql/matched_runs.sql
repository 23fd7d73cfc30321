-- Deploying runs, or the jobs of them that the catalog names, as attempts; the status says that it is a run's.
WITH ran AS (
    SELECT service, run_id, attempt, CAST(NULL AS String) AS region, repository, head_sha, head_branch, status,
           conclusion, created_at, started_at, completed_at, actor, source, origin, line
    FROM deploy_runs
    WHERE NOT has_job
    UNION ALL
    SELECT jobs.service AS service, jobs.run_id AS run_id, jobs.attempt AS attempt, jobs.name AS region,
           jobs.repository AS repository, jobs.head_sha AS head_sha, jobs.head_branch AS head_branch,
           jobs.status AS status, jobs.conclusion AS conclusion, jobs.created_at AS created_at,
           jobs.started_at AS started_at, jobs.completed_at AS completed_at, jobs.actor AS actor,
           jobs.source AS source, jobs.origin AS origin, jobs.line AS line
    FROM deploy_jobs AS jobs
    JOIN job_match AS matched ON matched.service = jobs.service AND matched.name = jobs.name
)
SELECT service,
       'run' AS kind,
       run_id AS source_id,
       run_id,
       attempt,
       region,
       repository,
       'production' AS environment,
       head_sha AS sha,
       CAST(NULL AS String) AS digest,
       CAST(NULL AS String) AS artifact_repository,
       CAST(NULL AS String) AS artifact_sha,
       head_branch AS ref,
       CASE WHEN status = 'completed' OR conclusion IS NOT NULL THEN 'run:' || coalesce(conclusion, '')
            ELSE 'run:' END AS status,
       created_at,
       started_at,
       completed_at AS finished_at,
       actor AS creator,
       source,
       origin,
       line
FROM ran

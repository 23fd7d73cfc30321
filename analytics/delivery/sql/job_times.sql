-- One row per job of a run attempt: queue and busy time, and whether it was carried over from an earlier attempt.
-- "Re-run failed jobs" emits passed jobs again under the new attempt with their old start: such rows measure nothing.
-- Source: metrics.md section 3, ingestion.md section 4.
SELECT coalesce(names.canonical, jobs.repository) AS repository,
       jobs.run_id AS run_id,
       jobs.attempt AS attempt,
       jobs.job_id AS job_id,
       jobs.name AS name,
       jobs.runner AS runner,
       joined_words(jobs.runner_labels) AS runner_label,
       coalesce(jobs.conclusion, CASE WHEN jobs.status = 'completed' THEN 'other' ELSE 'unfinished' END) AS outcome,
       jobs.created_at AS created_at,
       CASE WHEN jobs.started_at <= params.now THEN jobs.started_at END AS started_at,
       CASE WHEN jobs.completed_at <= params.now THEN jobs.completed_at END AS completed_at,
       local_day(coalesce(jobs.created_at, jobs.started_at)) AS day,
       CASE WHEN jobs.started_at >= jobs.created_at AND jobs.started_at <= params.now
            THEN us_between(jobs.created_at, jobs.started_at) END AS queue_us,
       CASE WHEN jobs.completed_at >= jobs.started_at AND jobs.completed_at <= params.now
                 AND NOT coalesce(jobs.started_at < jobs.created_at, false)
            THEN us_between(jobs.started_at, jobs.completed_at) END AS busy_us,
       coalesce(jobs.started_at < jobs.created_at, false) AS carried_over
FROM pipeline_jobs AS jobs
CROSS JOIN params
LEFT JOIN repository_names AS names ON names.seen = jobs.repository
WHERE coalesce(jobs.created_at, jobs.started_at) <= params.now

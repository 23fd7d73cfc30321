-- One row per run attempt that had begun at the cut-off, under the catalog's spelling of its repository.
-- Source: metrics.md section 3 (outcomes).
SELECT coalesce(names.canonical, runs.repository) AS repository,
       runs.run_id AS run_id,
       runs.attempt AS attempt,
       runs.workflow AS workflow,
       runs.event AS event,
       runs.head_sha AS head_sha,
       runs.head_branch AS head_branch,
       runs.created_at AS created_at,
       CASE
           WHEN runs.completed_at > params.now THEN 'unfinished'
           WHEN coalesce(runs.conclusion, runs.status) IN
                ('success', 'failure', 'timed_out', 'startup_failure', 'cancelled', 'skipped', 'neutral', 'stale',
                 'action_required') THEN coalesce(runs.conclusion, runs.status)
           WHEN runs.status = 'completed' OR runs.conclusion IS NOT NULL THEN 'other'
           ELSE 'unfinished'
       END AS outcome
FROM pipeline_runs AS runs
CROSS JOIN params
LEFT JOIN repository_names AS names ON names.seen = runs.repository
WHERE runs.created_at <= params.now AND (runs.attempt = 1 OR coalesce(runs.started_at <= params.now, true))

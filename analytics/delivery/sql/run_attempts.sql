-- One row per run attempt: outcome, first and final attempt, duration from its jobs, flakiness.
-- Source: metrics.md section 3. Reads the views pipeline_runs, job_times and the tables repository_names, params.
-- A later attempt exists only where attempt > 1, so first attempts need no grouping (the bulk of ten million rows).
CREATE OR REPLACE TEMP TABLE run_base AS
SELECT coalesce(names.canonical, runs.repository) AS repository,
       runs.run_id,
       runs.attempt,
       runs.workflow,
       runs.event,
       runs.head_sha,
       runs.head_branch,
       runs.created_at,
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
WHERE runs.created_at <= params.now AND (runs.attempt = 1 OR coalesce(runs.started_at <= params.now, true));

CREATE OR REPLACE TEMP TABLE run_last_attempt AS
SELECT repository, run_id, max(attempt) AS attempt FROM run_base WHERE attempt > 1 GROUP BY repository, run_id;

CREATE OR REPLACE TEMP TABLE run_failed_before AS
SELECT base.repository, base.run_id
FROM run_base AS base
JOIN run_last_attempt AS last ON last.repository = base.repository AND last.run_id = base.run_id
WHERE base.attempt < last.attempt AND base.outcome IN ('failure', 'timed_out', 'startup_failure')
GROUP BY base.repository, base.run_id;

-- A failed run and then a successful one of the same workflow and sha: the first success after the first failure.
CREATE OR REPLACE TEMP TABLE sha_failed AS
SELECT repository, workflow, head_sha, min(created_at) AS first_failed_at
FROM run_base
ANTI JOIN (SELECT repository, run_id FROM run_base SEMI JOIN run_last_attempt USING (repository, run_id, attempt)
           WHERE outcome = 'success') USING (repository, run_id)
WHERE outcome IN ('failure', 'timed_out', 'startup_failure')
GROUP BY repository, workflow, head_sha;

CREATE OR REPLACE TEMP TABLE sha_recovered AS
SELECT base.repository, base.workflow, base.head_sha, min(base.created_at) AS recovered_at
FROM run_base AS base
JOIN sha_failed AS failed
  ON failed.repository = base.repository AND failed.workflow = base.workflow AND failed.head_sha = base.head_sha
LEFT JOIN run_last_attempt AS last ON last.repository = base.repository AND last.run_id = base.run_id
WHERE base.outcome = 'success'
  AND base.attempt = coalesce(last.attempt, 1)
  AND base.created_at > failed.first_failed_at
GROUP BY base.repository, base.workflow, base.head_sha;

CREATE OR REPLACE TEMP TABLE attempt_duration AS
SELECT repository, run_id, attempt, epoch_us(max(completed_at)) - epoch_us(min(started_at)) AS duration_us
FROM job_times
WHERE NOT carried_over
GROUP BY repository, run_id, attempt;

-- One row per run attempt: outcome, first and final attempt, duration from its jobs, flakiness.
-- Source: metrics.md section 3.
SELECT base.repository AS repository,
       base.run_id AS run_id,
       base.attempt AS attempt,
       base.workflow AS workflow,
       base.event AS event,
       base.head_sha AS head_sha,
       base.head_branch AS head_branch,
       base.outcome AS outcome,
       base.outcome IN ('success', 'failure', 'timed_out', 'startup_failure') AS counted,
       base.outcome = 'success' AS succeeded,
       base.attempt = 1 AS is_first,
       base.attempt = coalesce(last.attempt, 1) AS is_final,
       base.attempt = coalesce(last.attempt, 1) AND base.outcome = 'success' AS run_succeeded,
       base.attempt = coalesce(last.attempt, 1) AND base.outcome = 'success'
           AND (before.run_id IS NOT NULL OR recovered.recovered_at IS NOT NULL) AS flaky,
       base.created_at AS created_at,
       local_day(base.created_at) AS day,
       CASE WHEN duration.duration_us >= 0 THEN duration.duration_us END AS duration_us,
       CASE WHEN duration.duration_us >= 0 AND base.outcome IN ('failure', 'timed_out', 'startup_failure')
            THEN duration.duration_us END AS lost_us
FROM run_base AS base
LEFT JOIN run_last_attempt AS last ON last.repository = base.repository AND last.run_id = base.run_id
LEFT JOIN run_failed_before AS before ON before.repository = base.repository AND before.run_id = base.run_id
LEFT JOIN sha_recovered AS recovered
  ON recovered.repository = base.repository AND recovered.workflow = base.workflow
 AND recovered.head_sha = base.head_sha AND recovered.recovered_at = base.created_at
LEFT JOIN attempt_duration AS duration
  ON duration.repository = base.repository AND duration.run_id = base.run_id AND duration.attempt = base.attempt

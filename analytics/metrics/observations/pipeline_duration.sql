-- One row per run attempt: from its first job's start to its last job's completion.
-- Source: metrics.md section 3 (duration) and section 8 (completed success and failure attempts).
SELECT repository AS subject,
       day,
       CASE WHEN outcome NOT IN ('success', 'failure') THEN outcome
            WHEN duration_us IS NULL THEN 'no_jobs' END AS excluded,
       duration_us AS amount_us,
       repository,
       workflow,
       run_id,
       attempt,
       outcome,
       created_at
FROM run_attempts

-- One row per run that succeeded in the end, marked when the same workflow and sha had failed before.
-- Source: metrics.md section 3, flaky.
SELECT repository AS subject,
       day,
       CASE WHEN run_succeeded THEN NULL ELSE 'never_succeeded' END AS excluded,
       CASE WHEN flaky THEN 1 ELSE 0 END AS numerator,
       1 AS denominator,
       repository,
       workflow,
       run_id,
       attempt,
       head_sha,
       outcome,
       created_at
FROM run_attempts
WHERE is_final

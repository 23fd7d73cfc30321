-- One row per run, by its last attempt. Source: metrics.md section 3, success rate.
SELECT repository AS subject,
       day,
       CASE WHEN counted THEN NULL ELSE outcome END AS excluded,
       CASE WHEN succeeded THEN 1 ELSE 0 END AS numerator,
       1 AS denominator,
       repository,
       workflow,
       run_id,
       attempt,
       outcome,
       created_at
FROM run_attempts
WHERE is_final

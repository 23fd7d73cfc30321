-- One row per run, marked when somebody ran it again. Source: metrics.md section 3, re-run rate.
SELECT repository AS subject,
       day,
       CAST(NULL AS String) AS excluded,
       CASE WHEN attempt > 1 THEN 1 ELSE 0 END AS numerator,
       1 AS denominator,
       repository,
       workflow,
       run_id,
       attempt,
       outcome,
       created_at
FROM run_attempts
WHERE is_final

-- One row per production attempt. Source: metrics.md section 8, deployment key (success / (success + failure)).
SELECT service AS subject,
       day,
       CASE WHEN carried_over THEN 'carried_over'
            WHEN outcome IN ('success', 'failure') THEN NULL
            ELSE outcome END AS excluded,
       CASE WHEN outcome = 'success' THEN 1 ELSE 0 END AS numerator,
       1 AS denominator,
       deployment_key,
       source_deployment_id,
       run_id,
       attempt,
       region,
       environment,
       sha,
       outcome,
       finished_at,
       origin,
       line
FROM deployment_attempts

-- As change_fail_rate, over the deployments that shipped a new commit. Source: metrics.md section 2.
SELECT service AS subject,
       day,
       CASE WHEN kind = 'change' THEN NULL WHEN outcome = 'success' THEN kind ELSE outcome END AS excluded,
       CASE WHEN failed THEN 1 ELSE 0 END AS numerator,
       1 AS denominator,
       deployment_key,
       kind,
       sha,
       finished_at,
       failed,
       failure_method,
       failure_evidence
FROM service_deployments

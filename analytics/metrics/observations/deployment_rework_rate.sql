-- One row per successful production deployment, marked when it was unplanned remediation.
-- Source: metrics.md section 2, deployment rework rate.
SELECT service AS subject,
       day,
       CASE WHEN outcome = 'success' THEN NULL ELSE outcome END AS excluded,
       CASE WHEN rework IS NULL THEN 0 ELSE 1 END AS numerator,
       1 AS denominator,
       deployment_key,
       kind,
       sha,
       finished_at,
       rework,
       rework_evidence,
       blamed_key
FROM service_deployments

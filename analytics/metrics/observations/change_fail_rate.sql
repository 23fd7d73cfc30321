-- One row per successful production deployment, marked when any evidence says that it failed. Failed attempts join where
-- the service says so. Source: metrics.md section 2, change fail rate.
SELECT service AS subject,
       day,
       CASE WHEN outcome = 'success' OR counts_as_failed_attempt THEN NULL ELSE outcome END AS excluded,
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

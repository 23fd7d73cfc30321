-- One row per failed deployment: from its finish to the end of its incidents, else to the remediating deployment.
-- Open ones are censored at the cut-off, never dropped. Source: metrics.md section 2, failed deployment recovery time.
SELECT service AS subject,
       day,
       CASE WHEN failed THEN recovery_excluded
            WHEN outcome = 'success' OR counts_as_failed_attempt THEN 'not_failed'
            ELSE outcome END AS excluded,
       CASE WHEN recovery_open THEN us_between(coalesce(finished_at, created_at), params.now)
            ELSE recovery_us END AS amount_us,
       recovery_open AS open,
       deployment_key,
       kind,
       sha,
       finished_at,
       recovered_at,
       failure_method,
       failure_evidence
FROM service_deployments
CROSS JOIN params

-- One row per successful production deployment, marked when any evidence says that it failed; and, where the service
-- says that failed attempts are failures, one per failed attempt. Source: metrics.md sections 2 and 8, change fail rate.
SELECT service AS subject,
       day,
       CASE WHEN outcome = 'success' THEN NULL ELSE outcome END AS excluded,
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
WHERE NOT counts_as_failed_attempt
UNION ALL
SELECT attempts.service AS subject,
       attempts.day AS day,
       CAST(NULL AS String) AS excluded,
       1 AS numerator,
       1 AS denominator,
       attempts.deployment_key AS deployment_key,
       CAST(NULL AS String) AS kind,
       attempts.sha AS sha,
       attempts.finished_at AS finished_at,
       true AS failed,
       'failed_attempt' AS failure_method,
       'the service counts failed attempts' AS failure_evidence
FROM deployment_attempts AS attempts
JOIN services ON services.service = attempts.service AND services.failed_attempt_is_failure
WHERE attempts.outcome = 'failure' AND NOT attempts.carried_over

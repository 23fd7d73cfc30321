-- One row per successful production deployment of any kind. Source: metrics.md section 2, deployment frequency.
SELECT service AS subject,
       day,
       CASE WHEN outcome = 'success' THEN NULL ELSE outcome END AS excluded,
       1 AS numerator,
       deployment_key,
       kind,
       repository,
       sha,
       environment,
       created_at,
       started_at,
       finished_at,
       finish_unknown,
       warning
FROM service_deployments

-- One row per successful production deployment, marked when a check passed after it; and the checks that name nothing.
-- Source: metrics.md section 4, row 9.
SELECT deployed.service AS subject,
       deployed.day AS day,
       CASE WHEN deployed.outcome = 'success' THEN NULL ELSE deployed.outcome END AS excluded,
       CASE WHEN looked.passed_at IS NOT NULL THEN 1 ELSE 0 END AS numerator,
       1 AS denominator,
       deployed.deployment_key AS deployment_key,
       deployed.sha AS sha,
       deployed.finished_at AS finished_at,
       looked.passed_at AS verified_at,
       looked.checks AS checks,
       looked.set_aside AS reason_set_aside
FROM service_deployments AS deployed
LEFT JOIN (
    SELECT service, deployment_key, count(*) AS checks, max(set_aside) AS set_aside,
           min(CASE WHEN set_aside IS NULL THEN completed_at END) AS passed_at
    FROM deployment_checks
    GROUP BY service, deployment_key
) AS looked ON looked.service = deployed.service AND looked.deployment_key = deployed.deployment_key
UNION ALL
SELECT service AS subject,
       day,
       set_aside AS excluded,
       0 AS numerator,
       1 AS denominator,
       deployment_id AS deployment_key,
       CAST(NULL AS String) AS sha,
       completed_at AS finished_at,
       CAST(NULL AS TIMESTAMP) AS verified_at,
       1 AS checks,
       set_aside AS reason_set_aside
FROM deployment_checks
WHERE service = ''

-- One row per production deployment, which adds to the denominator, and one per intervention, which adds to the
-- numerator. Source: metrics.md section 4, row 14.
SELECT service AS subject,
       day,
       CASE WHEN outcome = 'success' THEN NULL ELSE outcome END AS excluded,
       0 AS numerator,
       1 AS denominator,
       'deployment' AS what,
       deployment_key,
       repository,
       CAST(NULL AS String) AS run_id,
       CAST(NULL AS String) AS detail,
       finished_at AS happened_at
FROM service_deployments
UNION ALL
SELECT service AS subject,
       day,
       excluded,
       1 AS numerator,
       0 AS denominator,
       kind AS what,
       deployment_key,
       repository,
       run_id,
       detail,
       happened_at
FROM manual_interventions

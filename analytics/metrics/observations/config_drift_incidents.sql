-- One row per incident by the day on which it was opened; those without a label of drift are left out.
-- Source: metrics.md section 4, row 13.
SELECT drift.service AS subject,
       drift.day AS day,
       CASE WHEN drift.service = '' THEN 'no_service' END AS excluded,
       1 AS numerator,
       drift.incident_key AS incident_key,
       drift.title AS title,
       drift.severity AS severity,
       drift.label AS label,
       drift.opened_at AS opened_at,
       drift.url AS url
FROM drift_incidents AS drift
UNION ALL
SELECT incidents.service AS subject,
       incidents.opened_day AS day,
       'no_drift_label' AS excluded,
       1 AS numerator,
       incidents.incident_key AS incident_key,
       incidents.title AS title,
       incidents.severity AS severity,
       CAST(NULL AS String) AS label,
       incidents.opened_at AS opened_at,
       incidents.url AS url
FROM service_incidents AS incidents
LEFT JOIN drift_incidents AS drift
  ON drift.service = incidents.service AND drift.incident_key = incidents.incident_key
WHERE drift.incident_key IS NULL

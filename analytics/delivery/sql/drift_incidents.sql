-- Incidents with a label that the settings call drift, once per service, in the period in which they were opened; those
-- of no known service are kept to be shown. Source: metrics.md section 4, row 13.
SELECT incidents.service AS service, incidents.incident_key AS incident_key, incidents.title AS title,
       incidents.severity AS severity, drifted.label AS label, incidents.opened_at AS opened_at,
       incidents.opened_day AS day, incidents.url AS url
FROM service_incidents AS incidents
JOIN (
    SELECT own.service AS service, own.incident_key AS incident_key, min(labelled.label) AS label
    FROM service_incident_ids AS own
    JOIN labelled_incidents AS labelled ON labelled.incident_id = own.incident_id
    GROUP BY own.service, own.incident_key
) AS drifted ON drifted.service = incidents.service AND drifted.incident_key = incidents.incident_key
UNION ALL
SELECT '' AS service, 'incident:' || incidents.incident_id AS incident_key, incidents.title AS title,
       incidents.severity AS severity, labelled.label AS label, incidents.opened_at AS opened_at,
       local_day(incidents.opened_at) AS day, incidents.url AS url
FROM incidents
JOIN labelled_incidents AS labelled ON labelled.incident_id = incidents.incident_id
CROSS JOIN params
LEFT JOIN service_incident_ids AS own ON own.incident_id = incidents.incident_id
WHERE incidents.opened_at <= params.now AND own.incident_id IS NULL

-- Incidents with a label that the settings call drift, once per service, in the period in which they were opened; those
-- of no known service are kept to be shown. Source: metrics.md section 4, row 13.
WITH labelled AS (
    SELECT incident_id, min(label) AS label
    FROM (SELECT incident_id, unnest(labels) AS label FROM incidents)
    SEMI JOIN drift_labels USING (label)
    GROUP BY incident_id
), own AS (
    SELECT service, incident_key, unnest(incident_ids) AS incident_id FROM service_incidents
), drifted AS (
    SELECT own.service, own.incident_key, min(labelled.label) AS label
    FROM own JOIN labelled USING (incident_id) GROUP BY own.service, own.incident_key
)
SELECT incidents.service, incidents.incident_key, incidents.title, incidents.severity, drifted.label,
       incidents.opened_at, incidents.opened_day AS day, incidents.url
FROM service_incidents AS incidents
JOIN drifted ON drifted.service = incidents.service AND drifted.incident_key = incidents.incident_key
UNION ALL
SELECT '', 'incident:' || incidents.incident_id, incidents.title, incidents.severity, labelled.label,
       incidents.opened_at, local_day(incidents.opened_at), incidents.url
FROM incidents
JOIN labelled USING (incident_id)
CROSS JOIN params
ANTI JOIN own USING (incident_id)
WHERE incidents.opened_at <= params.now

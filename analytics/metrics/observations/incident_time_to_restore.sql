-- One row per incident, linked to a deployment or not, dated by its restoration.
-- Source: metrics.md section 2 (companion of recovery) and section 8 (incident ends).
SELECT service AS subject,
       CASE WHEN day IS NULL THEN opened_day ELSE day END AS day,
       CASE WHEN restored_at IS NULL THEN 'open'
            WHEN restore_us < 0 THEN 'ended_before_impact' END AS excluded,
       restore_us AS amount_us,
       incident_key,
       incident_ids,
       title,
       severity,
       impact_started_at,
       restored_at,
       linked,
       unlinked_reason,
       deployment_key,
       url
FROM service_incidents

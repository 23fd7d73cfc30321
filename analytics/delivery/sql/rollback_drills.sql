-- Drills up to the cut-off; what is no rollback, or did not work, is set aside with the reason.
-- Source: metrics.md section 4, row 8.
SELECT CASE WHEN known.service IS NULL THEN '' ELSE drills.service END AS service,
       drills.performed_at AS performed_at,
       local_day(drills.performed_at) AS day,
       drills.kind AS kind,
       drills.outcome AS outcome,
       CASE WHEN known.service IS NULL THEN 'no_catalog_entry'
            WHEN lower(drills.kind) <> 'rollback' THEN 'other_kind'
            WHEN passed.word IS NULL THEN 'not_passed' END AS set_aside
FROM drills
CROSS JOIN params
LEFT JOIN known_services AS known ON known.service = drills.service
LEFT JOIN passed_words AS passed ON passed.word = lower(drills.outcome)
WHERE drills.performed_at <= params.now

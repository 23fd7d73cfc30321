-- One row per runbook and quarter, as things stood at the quarter's end or the cut-off.
-- Source: metrics.md section 4, row 17.
SELECT runbooks.service AS subject,
       quarters.last_day AS day,
       CASE WHEN services.since > quarters.last_day THEN 'not_yet_live'
            WHEN NOT runbooks.watched THEN 'no_history'
            WHEN changes.changed_at IS NULL AND runbooks.state = 'found' THEN 'not_known_then' END AS excluded,
       CASE WHEN changes.changed_day >= quarters.runbooks_from THEN 1 ELSE 0 END AS numerator,
       1 AS denominator,
       runbooks.repository AS repository,
       runbooks.path AS path,
       runbooks.state AS state,
       changes.changed_at AS last_changed_at,
       quarters.runbooks_from AS fresh_from
FROM service_runbooks AS runbooks
JOIN services ON services.service = runbooks.service
CROSS JOIN quarters
LEFT JOIN (
    SELECT known.service AS service, known.path AS path, period.quarter AS quarter, max(known.day) AS changed_day,
           max(known.changed_at) AS changed_at
    FROM runbook_changes AS known
    JOIN quarters AS period ON known.day <= period.last_day
    WHERE known.purpose = 'runbook'
    GROUP BY known.service, known.path, period.quarter
) AS changes
  ON changes.service = runbooks.service AND changes.path = runbooks.path AND changes.quarter = quarters.quarter
WHERE runbooks.purpose = 'runbook'

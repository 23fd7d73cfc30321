-- One row per service and quarter, as things stood at the quarter's end or the cut-off; services that are not critical
-- are left out. Source: metrics.md section 4, row 8.
SELECT services.service AS subject,
       quarters.last_day AS day,
       CASE WHEN services.tier IS NULL THEN 'no_catalog_entry'
            WHEN NOT services.critical THEN 'not_critical'
            WHEN services.since > quarters.last_day THEN 'not_yet_live' END AS excluded,
       CASE WHEN runbooks.state IN ('found', 'declared') AND services.rollback_automation IS NOT NULL
                 AND drills.drilled_at IS NOT NULL THEN 1 ELSE 0 END AS numerator,
       1 AS denominator,
       services.tier AS tier,
       runbooks.path AS rollback_runbook,
       CASE WHEN runbooks.state IS NULL THEN 'not_named' ELSE runbooks.state END AS runbook_state,
       services.rollback_automation AS rollback_automation,
       drills.drilled_at AS last_successful_drill_at,
       quarters.drills_from AS drills_count_from
FROM services
CROSS JOIN quarters
LEFT JOIN service_runbooks AS runbooks ON runbooks.service = services.service AND runbooks.purpose = 'rollback'
LEFT JOIN (
    SELECT done.service AS service, period.quarter AS quarter, max(done.performed_at) AS drilled_at
    FROM rollback_drills AS done
    JOIN quarters AS period ON done.day >= period.drills_from AND done.day <= period.last_day
    WHERE done.set_aside IS NULL
    GROUP BY done.service, period.quarter
) AS drills ON drills.service = services.service AND drills.quarter = quarters.quarter

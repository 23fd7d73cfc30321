-- One row per service and quarter: it counts in the quarter of its first run that called a standard template.
-- Source: metrics.md section 4, row 16.
SELECT services.service AS subject,
       CASE WHEN adopted.day >= quarters.first_day AND adopted.day <= quarters.last_day THEN adopted.day
            ELSE quarters.last_day END AS day,
       CASE WHEN services.since > quarters.last_day THEN 'not_yet_live'
            WHEN adopted.day < quarters.first_day THEN 'onboarded_before'
            WHEN adopted.day <= quarters.last_day THEN NULL
            ELSE 'not_on_templates' END AS excluded,
       1 AS numerator,
       adopted.template AS template,
       adopted.workflow AS workflow,
       adopted.run_id AS run_id,
       adopted.first_at AS first_at
FROM services
CROSS JOIN quarters
LEFT JOIN template_adoption AS adopted ON adopted.service = services.service

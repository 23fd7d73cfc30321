-- One row per series and commit that a deployment shipped first. Source: metrics.md section 2, change lead time.
SELECT lead.service AS subject,
       lead.day,
       series.series,
       CASE WHEN lead.excluded IS NOT NULL THEN lead.excluded
            WHEN series.series = 'human' AND lead.is_bot THEN 'bot' END AS excluded,
       lead.lead_us AS amount_us,
       lead.deployment_key AS cluster,
       lead.repository,
       lead.sha,
       lead.author,
       lead.authored_at,
       lead.finished_at,
       lead.deployment_key,
       lead.pull_request,
       lead.original_of,
       lead.path_unknown
FROM change_lead AS lead
CROSS JOIN (SELECT 'human' AS series UNION ALL SELECT 'all' AS series) AS series

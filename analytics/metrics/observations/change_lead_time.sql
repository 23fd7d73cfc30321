-- One row per series and commit that a deployment shipped first. Source: metrics.md section 2, change lead time.
SELECT lead.service AS subject,
       lead.day AS day,
       series.series AS series,
       CASE WHEN lead.excluded IS NOT NULL THEN lead.excluded
            WHEN series.series = 'human' AND lead.is_bot THEN 'bot' END AS excluded,
       lead.lead_us AS amount_us,
       lead.deployment_key AS cluster,
       lead.repository AS repository,
       lead.sha AS sha,
       lead.author AS author,
       lead.authored_at AS authored_at,
       lead.finished_at AS finished_at,
       lead.deployment_key AS deployment_key,
       lead.pull_request AS pull_request,
       lead.original_of AS original_of,
       lead.path_unknown AS path_unknown
FROM change_lead AS lead
CROSS JOIN (SELECT 'human' AS series UNION ALL SELECT 'all' AS series) AS series

-- The first run of each service's repository that called a standard template. Source: metrics.md section 4, row 16.
WITH calls AS (
    SELECT lower(runs.repository) AS folded, runs.repository, runs.run_id, runs.workflow, runs.created_at,
           unnest(runs.referenced_workflows) AS template
    FROM pipeline_runs AS runs
    CROSS JOIN params
    WHERE len(runs.referenced_workflows) > 0 AND runs.created_at <= params.now
), firsts AS (
    SELECT calls.folded, calls.run_id, calls.workflow, calls.template, calls.created_at
    FROM calls
    JOIN standard_templates AS standard ON standard.repository = calls.repository AND standard.template = calls.template
    QUALIFY row_number() OVER (PARTITION BY calls.folded ORDER BY calls.created_at, calls.run_id, calls.template) = 1
)
SELECT services.service, services.repository, firsts.run_id, firsts.workflow, firsts.template,
       firsts.created_at AS first_at, local_day(firsts.created_at) AS day
FROM services
JOIN firsts ON firsts.folded = lower(services.repository)

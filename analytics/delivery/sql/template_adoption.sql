-- The first run of each service's repository that called a standard template. Source: metrics.md section 4, row 16.
WITH calls AS (
    SELECT lower(called.repository) AS folded, called.run_id AS run_id, called.workflow AS workflow,
           called.template AS template, called.created_at AS created_at
    FROM called_templates AS called
    JOIN standard_templates AS standard
      ON standard.repository = called.repository AND standard.template = called.template
    CROSS JOIN params
    WHERE called.created_at <= params.now
), ordered AS (
    SELECT folded, run_id, workflow, template, created_at,
           row_number() OVER (PARTITION BY folded ORDER BY created_at, run_id, template) AS place
    FROM calls
)
SELECT services.service AS service, services.repository AS repository, ordered.run_id AS run_id,
       ordered.workflow AS workflow, ordered.template AS template, ordered.created_at AS first_at,
       local_day(ordered.created_at) AS day
FROM services
JOIN ordered ON ordered.folded = lower(services.repository)
WHERE ordered.place = 1

-- One row per gate and run, marked when a block was resolved as a false positive. Source: metrics.md section 4, row 11.
SELECT repository AS subject,
       day,
       CASE WHEN NOT known THEN 'no_catalog_entry'
            WHEN outcome = 'blocked' THEN NULL
            ELSE outcome END AS excluded,
       CASE WHEN resolution = 'false_positive' THEN 1 ELSE 0 END AS numerator,
       1 AS denominator,
       repository,
       run_id,
       gate,
       outcome,
       resolution,
       judged_at
FROM gate_outcomes

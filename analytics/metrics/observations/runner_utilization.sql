-- One row per runner, repository and quarter: busy time beside the window in which the runner was seen at work.
-- Source: metrics.md section 3, runner utilisation.
SELECT repository AS subject,
       day,
       CASE WHEN window_us > 0 THEN NULL ELSE 'no_window' END AS excluded,
       busy_us AS numerator,
       window_us AS denominator,
       runner,
       repository,
       jobs
FROM runner_windows

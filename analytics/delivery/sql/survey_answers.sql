-- Answers of surveys up to the cut-off, as a share of the highest score. Who answered stays out of every page.
-- Source: metrics.md section 4, row 15.
SELECT coalesce(names.team, '') AS team,
       answers.team AS stated_team,
       answers.question AS question,
       answers.respondent AS respondent,
       answers.score AS score,
       answers.max_score AS max_score,
       CASE WHEN answers.score >= 0 AND answers.score <= answers.max_score
            THEN CAST(round(answers.score / answers.max_score * 1e12) AS BIGINT) END AS share_trillionths,
       answers.answered_at AS answered_at,
       local_day(answers.answered_at) AS day,
       CASE WHEN answers.score >= 0 AND answers.score <= answers.max_score THEN NULL
            ELSE 'out_of_range' END AS excluded,
       answers.origin AS origin,
       answers.line AS line
FROM survey_responses AS answers
CROSS JOIN params
LEFT JOIN team_names AS names ON names.seen = answers.team
WHERE answers.answered_at <= params.now

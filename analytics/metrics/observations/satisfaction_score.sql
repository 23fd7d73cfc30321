-- One row per answer, as a share of the highest score. Who answered is not shown: the line of the feed tells whoever may
-- read the feed. Source: metrics.md section 4, row 15.
SELECT team AS subject,
       day,
       excluded,
       share_trillionths AS amount_trillionths,
       respondent AS cluster,
       stated_team,
       question,
       score,
       max_score,
       answered_at,
       origin,
       line
FROM survey_answers

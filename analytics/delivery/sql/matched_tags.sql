-- Tags and releases of services that deploy by them; a tag without a time has its commit's, a release without a commit
-- its tag's.
WITH named AS (
    SELECT 'tag' AS kind, tags.repository AS repository, tags.name AS name, tags.sha AS sha,
           coalesce(tags.tagged_at, commits.committed_at) AS tagged_at, tags.source AS source, tags.origin AS origin,
           tags.line AS line
    FROM tags
    LEFT JOIN commits ON commits.repository = tags.repository AND commits.sha = tags.sha
    UNION ALL
    SELECT 'release' AS kind, releases.repository AS repository, releases.tag AS name,
           coalesce(releases.sha, tags.sha) AS sha, releases.published_at AS tagged_at, releases.source AS source,
           releases.origin AS origin, releases.line AS line
    FROM releases
    LEFT JOIN tags ON lower(tags.repository) = lower(releases.repository) AND tags.name = releases.tag
)
SELECT matched.service AS service,
       matched.kind AS kind,
       named.name AS source_id,
       CAST(NULL AS String) AS run_id,
       1 AS attempt,
       CAST(NULL AS String) AS region,
       named.repository AS repository,
       'production' AS environment,
       named.sha AS sha,
       CAST(NULL AS String) AS digest,
       CAST(NULL AS String) AS artifact_repository,
       CAST(NULL AS String) AS artifact_sha,
       named.name AS ref,
       'success' AS status,
       named.tagged_at AS created_at,
       CAST(NULL AS TIMESTAMP) AS started_at,
       named.tagged_at AS finished_at,
       CAST(NULL AS String) AS creator,
       named.source AS source,
       named.origin AS origin,
       named.line AS line
FROM named
JOIN tag_match AS matched
  ON matched.kind = named.kind AND matched.repository = named.repository AND matched.name = named.name
WHERE named.tagged_at IS NOT NULL

"""The GraphQL documents: each holds all that one entity needs, so that nothing is asked for item by item."""

from __future__ import annotations

_SIGHT = """
  databaseId
  id
  nameWithOwner
  url
  createdAt
  pushedAt
  defaultBranchRef { name target { oid } }
  pullRequests(first: 1, orderBy: {field: UPDATED_AT, direction: DESC}) { totalCount nodes { updatedAt } }
  deployments(first: 1, orderBy: {field: CREATED_AT, direction: DESC}) { totalCount nodes { createdAt updatedAt } }
  issues(first: 1, orderBy: {field: UPDATED_AT, direction: DESC}) { nodes { updatedAt } }
  releases(first: 1, orderBy: {field: CREATED_AT, direction: DESC}) { totalCount nodes { createdAt updatedAt } }
"""

SWEEP = (
    """query($login: String!, $after: String) {
  organization(login: $login) {
    repositories(first: 100, after: $after, orderBy: {field: CREATED_AT, direction: ASC}) {
      pageInfo { hasNextPage endCursor }
      nodes {"""
    + _SIGHT
    + "} } } }"
)

SWEEP_REPOSITORY = "query($owner: String!, $name: String!) { repository(owner: $owner, name: $name) {" + _SIGHT + "} }"

_COMMITS = "totalCount pageInfo { hasNextPage endCursor } nodes { commit { oid } }"
_REVIEWS = "totalCount pageInfo { hasNextPage endCursor } nodes { databaseId state submittedAt author { login } }"

PULL_REQUESTS = f"""query($id: ID!, $after: String) {{
  node(id: $id) {{ ... on Repository {{
    pullRequests(first: 50, after: $after, orderBy: {{field: UPDATED_AT, direction: DESC}}) {{
      totalCount
      pageInfo {{ hasNextPage endCursor }}
      nodes {{
        id databaseId number title state createdAt updatedAt mergedAt closedAt headRefName
        author {{ login }}
        mergeCommit {{ oid }}
        labels(first: 50) {{ nodes {{ name }} }}
        commits(first: 100) {{ {_COMMITS} }}
        reviews(first: 50) {{ {_REVIEWS} }}
      }}
    }}
  }} }}
}}"""

PR_COMMITS = f"""query($id: ID!, $after: String) {{
  node(id: $id) {{ ... on PullRequest {{ commits(first: 100, after: $after) {{ {_COMMITS} }} }} }}
}}"""

PR_REVIEWS = f"""query($id: ID!, $after: String) {{
  node(id: $id) {{ ... on PullRequest {{ reviews(first: 100, after: $after) {{ {_REVIEWS} }} }} }}
}}"""

_DEPLOYMENT = """
  id databaseId environment commitOid createdAt updatedAt state task payload
  ref { name }
  creator { login }
  statuses(first: 100) { totalCount nodes { state createdAt logUrl } }
"""

DEPLOYMENTS = f"""query($id: ID!, $after: String) {{
  node(id: $id) {{ ... on Repository {{
    deployments(first: 100, after: $after, orderBy: {{field: CREATED_AT, direction: DESC}}) {{
      totalCount
      pageInfo {{ hasNextPage endCursor }}
      nodes {{ {_DEPLOYMENT} }}
    }}
  }} }}
}}"""

DEPLOYMENTS_BY_ID = f"""query($ids: [ID!]!) {{
  nodes(ids: $ids) {{ ... on Deployment {{ {_DEPLOYMENT} repository {{ databaseId }} }} }}
}}"""

# Tags of tags are rare, and deeper ones are not known.
_TARGET = "__typename oid ... on Commit { committedDate }"
REFS = f"""query($id: ID!, $prefix: String!, $after: String) {{
  node(id: $id) {{ ... on Repository {{
    refs(refPrefix: $prefix, first: 100, after: $after) {{
      totalCount
      pageInfo {{ hasNextPage endCursor }}
      nodes {{
        name
        target {{
          {_TARGET}
          ... on Tag {{ tagger {{ date }} target {{ {_TARGET} ... on Tag {{ target {{ {_TARGET} }} }} }} }}
        }}
      }}
    }}
  }} }}
}}"""

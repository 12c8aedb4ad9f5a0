//! Redacted evidence with its full text.

use crate::domain::{Evidence, EvidenceKind, EvidenceSummary, Principal};
use chrono::{DateTime, Utc};
use sqlx::PgExecutor;
use std::borrow::Cow;
use uuid::Uuid;

/// A piece of evidence to insert.
#[derive(Debug, Clone)]
pub struct NewEvidence {
    /// Row id.
    pub id: Uuid,
    /// Position, 1 for `E1`.
    pub position: i32,
    /// Source of the evidence.
    pub kind: EvidenceKind,
    /// Display title.
    pub title: String,
    /// Redacted text.
    pub text: String,
    /// Number of lines.
    pub lines: i32,
    /// Numbers of lines that are partly shown in red, ascending.
    pub red: Vec<u32>,
    /// Text as received, if it is to be stored.
    pub raw: Option<String>,
    /// Number of replaced secrets.
    pub redactions: i32,
    /// Only person who may read it; `None` for everybody.
    pub visible_to: Option<String>,
}

impl NewEvidence {
    /// Converts a redacted piece that a run added to its workspace.
    #[must_use]
    pub fn of(piece: &Evidence) -> Self {
        Self {
            id: piece.id,
            position: piece.label[1..].parse().unwrap_or(i32::MAX),
            kind: piece.kind,
            title: piece.title.clone(),
            text: piece.text.clone(),
            lines: count_lines(&piece.text),
            red: piece.red.clone(),
            raw: None,
            redactions: 0,
            visible_to: None,
        }
    }

    /// Restricts the piece to one reader, if given.
    #[must_use]
    pub fn visible_to(self, owner: Option<&str>) -> Self {
        Self { visible_to: owner.map(ToOwned::to_owned), ..self }
    }

    /// Returns the text as stored: PostgreSQL text cannot contain NUL.
    #[must_use]
    pub fn stored_text(&self) -> Cow<'_, str> {
        storable(&self.text)
    }
}

/// Counts lines for storage.
#[must_use]
pub fn count_lines(text: &str) -> i32 {
    i32::try_from(text.lines().count()).unwrap_or(i32::MAX)
}

/// Replaces NUL characters, which PostgreSQL rejects. Does not copy texts without NUL.
fn storable(text: &str) -> Cow<'_, str> {
    if memchr::memchr(0, text.as_bytes()).is_none() {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.replace('\0', "\u{fffd}"))
}

/// Owner of evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// A report: collected evidence and tool results of its investigation.
    Report(Uuid),
    /// A conversation: tool results.
    Conversation(Uuid),
}

impl Owner {
    /// Returns the report id and the conversation id; one of them is set.
    fn ids(self) -> (Option<Uuid>, Option<Uuid>) {
        match self {
            Self::Report(id) => (Some(id), None),
            Self::Conversation(id) => (None, Some(id)),
        }
    }
}

/// Inserts pieces in one statement; an occupied position stays unchanged.
pub async fn insert(
    db: impl PgExecutor<'_>,
    owner: Owner,
    pieces: &[NewEvidence],
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    let (report, conversation) = owner.ids();
    let count = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
    let ids: Vec<Uuid> = pieces.iter().map(|piece| piece.id).collect();
    let positions: Vec<i32> = pieces.iter().map(|piece| piece.position).collect();
    let kinds: Vec<String> = pieces.iter().map(|piece| piece.kind.as_str().to_owned()).collect();
    let titles: Vec<String> = pieces.iter().map(|piece| piece.title.replace('\0', "")).collect();
    let texts: Vec<Cow<'_, str>> = pieces.iter().map(NewEvidence::stored_text).collect();
    let lines: Vec<i32> = pieces.iter().map(|piece| piece.lines).collect();
    let bytes: Vec<i32> = pieces.iter().map(|piece| count(piece.text.len())).collect();
    // PostgreSQL rejects an array of arrays of different lengths, so each one is passed as text.
    let reds: Vec<String> = pieces.iter().map(|piece| array(&piece.red)).collect();
    let raws: Vec<Option<Cow<'_, str>>> =
        pieces.iter().map(|piece| piece.raw.as_deref().map(storable)).collect();
    let redactions: Vec<i32> = pieces.iter().map(|piece| piece.redactions).collect();
    let owners: Vec<Option<String>> = pieces.iter().map(|piece| piece.visible_to.clone()).collect();
    sqlx::query!(
        "insert into evidence (id, report_id, conversation_id, position, kind, title, text, lines, bytes, redactions, created_at, red, raw, visible_to)
         select id, $2, $13, position, kind, title, text, lines, bytes, redactions, $10, red::int[], raw, visible_to
         from unnest($1::uuid[], $3::int[], $4::text[], $5::text[], $6::text[], $7::int[], $8::int[], $9::int[], $11::text[], $12::text[],
                     $14::text[])
              as piece (id, position, kind, title, text, lines, bytes, redactions, red, raw, visible_to)
         on conflict do nothing",
        &ids,
        report,
        &positions,
        &kinds,
        &titles,
        &texts as &[Cow<'_, str>],
        &lines,
        &bytes,
        &redactions,
        now,
        &reds,
        &raws as &[Option<Cow<'_, str>>],
        conversation,
        &owners as &[Option<String>]
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Returns all pieces of a report or conversation with their texts, as visible to the reader.
pub async fn of(db: impl PgExecutor<'_>, owner: Owner, reader: &Principal) -> sqlx::Result<Vec<Evidence>> {
    let (report, conversation) = owner.ids();
    let rows = sqlx::query!(
        r#"select id, position, kind, title || case when pruned_at is null then '' else ' (no longer kept)' end as "title!", text, red, visible_to
           from evidence where report_id = $1 or conversation_id = $2 order by position"#,
        report,
        conversation
    )
    .fetch_all(db)
    .await?;
    let pieces = rows.into_iter().map(|row| {
        let piece = Evidence {
            id: row.id,
            label: format!("E{}", row.position),
            kind: EvidenceKind::parse(&row.kind),
            title: row.title,
            text: row.text,
            red: row.red.into_iter().filter_map(|number| u32::try_from(number).ok()).collect(),
        };
        piece.redacted_for(row.visible_to.as_deref(), reader)
    });
    Ok(pieces.collect())
}

/// Formats a PostgreSQL array literal.
fn array(numbers: &[u32]) -> String {
    let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    format!("{{{}}}", numbers.join(","))
}

/// Lists the pieces of a report or conversation, as visible to the reader.
pub async fn list(
    db: impl PgExecutor<'_>,
    owner: Owner,
    reader: &Principal,
) -> sqlx::Result<Vec<EvidenceSummary>> {
    let (report, conversation) = owner.ids();
    let rows = sqlx::query!(
        "select id, position, kind, title, lines, bytes, redactions, created_at, pruned_at, visible_to
         from evidence where report_id = $1 or conversation_id = $2 order by position",
        report,
        conversation
    )
    .fetch_all(db)
    .await?;
    let summary = rows.into_iter().map(|row| {
        let summary = EvidenceSummary {
            id: row.id,
            label: format!("E{}", row.position),
            kind: EvidenceKind::parse(&row.kind),
            title: row.title,
            lines: row.lines,
            bytes: row.bytes,
            redactions: row.redactions,
            created_at: row.created_at,
            pruned_at: row.pruned_at,
            visible_to: row.visible_to,
        };
        summary.redacted_for(reader)
    });
    Ok(summary.collect())
}

/// Returns the id of a piece whose text is stored, if it is visible to the reader.
pub async fn id(
    db: impl PgExecutor<'_>,
    owner: Owner,
    position: i32,
    reader: &Principal,
) -> sqlx::Result<Option<Uuid>> {
    let (report, conversation) = owner.ids();
    let row = sqlx::query!(
        "select id, visible_to from evidence
         where (report_id = $1 or conversation_id = $2) and position = $3 and pruned_at is null",
        report,
        conversation,
        position
    );
    let row = row.fetch_optional(db).await?;
    Ok(row.filter(|row| reader.may_read(row.visible_to.as_deref())).map(|row| row.id))
}

/// Readable content of a piece.
#[derive(Debug)]
pub enum Text {
    /// Full text.
    Kept(String),
    /// Text deleted at this time by retention.
    Pruned(DateTime<Utc>),
    /// Only this other person may read the text.
    Withheld(String),
}

/// Returns the full text of a piece, if it is visible to the reader.
pub async fn text(
    db: impl PgExecutor<'_>,
    owner: Owner,
    position: i32,
    reader: &Principal,
) -> sqlx::Result<Option<Text>> {
    let (report, conversation) = owner.ids();
    let row = sqlx::query!(
        "select text, pruned_at, visible_to from evidence
         where (report_id = $1 or conversation_id = $2) and position = $3",
        report,
        conversation,
        position
    );
    let row = row.fetch_optional(db).await?;
    Ok(row.map(|row| match (row.visible_to, row.pruned_at) {
        (Some(owner), _) if !reader.may_read(Some(&owner)) => Text::Withheld(owner),
        (_, Some(at)) => Text::Pruned(at),
        _ => Text::Kept(row.text),
    }))
}

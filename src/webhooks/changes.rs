//! Making, changing and removing webhooks, and setting where they go on. Each change is on disk when its function returns.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use reqwest::Url;
use rookery_actors::{CommandError, EventSpan};
use rookery_model::{SessionId, Timestamp};
use rookery_store::{BATCH_OPERATIONS_MAX, Batch, SessionNumber};
use uuid::Uuid;

use super::feed::Feed;
use super::record::{Sessions, Terms, TermsChange, WebhookRecord};
use super::rows::{self, StoredPosition};
use super::{Maker, OF_SESSION_MAX, OF_SEVERAL_MAX, Shared, Webhook, WebhookError, Webhooks};
use crate::auth::Key;
use crate::url_fetch::FetchError;

/// A webhook that is to be made.
pub(crate) struct NewWebhook {
    pub(crate) sessions: Sessions,
    pub(crate) terms: Terms,
}

/// Where deliveries are to go on.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum ReplayFrom {
    /// With the event that has this number.
    Number(u64),
    /// With the first event that was seen at this time or later.
    Time(Timestamp),
}

impl Webhooks {
    /// Makes a webhook, which gets the events from now on.
    ///
    /// # Errors
    /// [`WebhookError::TooManyOfSession`], [`WebhookError::TooManyOfSeveral`], [`WebhookError::Destination`], and what the
    /// store has against it.
    pub(crate) async fn create(&self, new: NewWebhook, key: &Key) -> Result<Arc<Webhook>, WebhookError> {
        let shared = &self.shared;
        shared.check_destination(&new.terms.url).await?;
        let now = Timestamp::now();
        let record = WebhookRecord {
            id: Uuid::new_v4(),
            sessions: new.sessions,
            terms: new.terms,
            pause: None,
            made_by: key.id(),
            is_made_by_limited: key.is_limited(),
            secret_by: key.id(),
            headers_by: key.id(),
            created_at: now,
            updated_at: now,
        };
        let webhook = Webhook::new(record);
        for session in shared.sessions_of(&webhook.record().sessions) {
            // Of several sessions, one that cannot be read begins with its first event.
            let (number, latest) = match (shared.gateway.number(session), shared.latest(session).await) {
                (Ok(number), Ok(latest)) => (number, latest),
                (Err(error), _) | (_, Err(error)) if matches!(webhook.record().sessions, Sessions::One(_)) => {
                    return Err(error.into());
                }
                _ => continue,
            };
            let position = StoredPosition { number: latest, tried_at: None };
            webhook.feeds().insert(session, Arc::new(Feed::new(webhook.id, session, number, position)));
        }
        {
            let _writing = shared.writing.lock().await;
            shared.check_count(&webhook.record().sessions)?;
            shared.store_new(&webhook).await?;
            shared.table_mut().add(&webhook);
        }
        for feed in webhook.all_feeds() {
            // Something may have happened since its position was taken.
            if let Ok(latest) = shared.latest(feed.session).await {
                shared.wake(&webhook, feed.session, latest);
            }
        }
        Ok(webhook)
    }

    /// Changes a webhook. Deliveries that wait for their next attempt are tried at once. When a limited key changes what another one made,
    /// it is that key's from then on, so that it delivers no more than that key may see; and what only the other one knows goes to no other URL.
    ///
    /// # Errors
    /// [`WebhookError::Destination`], [`WebhookError::OthersSecrets`], [`WebhookError::NotFound`], and what the store has against
    /// it.
    pub(crate) async fn update(
        &self,
        webhook: &Arc<Webhook>,
        change: TermsChange,
        key: &Key,
    ) -> Result<(), WebhookError> {
        if let Some(url) = &change.url {
            self.shared.check_destination(url).await?;
        }
        let maker = key.is_limited().then(|| key.id());
        let mut is_refused = false;
        let changed = self.shared.change(webhook, |record| {
            is_refused = maker.is_some_and(|maker| record.leaks_by(&change, maker));
            if is_refused {
                return false;
            }
            if let Some(maker) = maker {
                (record.made_by, record.is_made_by_limited) = (maker, true);
            }
            if change.secret.is_some() {
                record.secret_by = key.id();
            }
            if change.headers.is_some() {
                record.headers_by = key.id();
            }
            record.terms = record.terms.clone().with(change);
            record.updated_at = Timestamp::now();
            true
        });
        changed.await?;
        if is_refused {
            return Err(WebhookError::OthersSecrets);
        }
        self.shared.begin_anew(webhook);
        self.shared.wake_webhook(webhook).await;
        Ok(())
    }

    /// Removes a webhook with all that is stored of it.
    ///
    /// # Errors
    /// What the store has against it.
    pub(crate) async fn remove(&self, webhook: &Arc<Webhook>) -> Result<(), WebhookError> {
        let shared = &self.shared;
        let _writing = shared.writing.lock().await;
        let mut batch = Batch::for_removal();
        rows::delete_record(&*shared.store, &mut batch, shared.home(&webhook.record().sessions)?, webhook.id)?;
        shared.store.commit(batch).await?;
        webhook.is_removed.store(true, Ordering::Relaxed);
        webhook.note_change();
        shared.table_mut().remove(webhook.id);
        shared.log.forget(webhook.id);
        let mut batch = Batch::for_removal();
        for feed in webhook.all_feeds() {
            shared.forget_unsaved(&feed);
            for removal in feed.removal() {
                if batch.len() + removal.len() > BATCH_OPERATIONS_MAX {
                    shared.store.commit(std::mem::replace(&mut batch, Batch::for_removal())).await?;
                }
                batch.append(removal);
            }
        }
        Ok(shared.store.commit(batch).await?)
    }

    /// Ends a pause; goes on where it was, or in one session from another place.
    ///
    /// # Errors
    /// [`WebhookError::CannotResume`]; [`WebhookError::PositionTrimmed`] when events are gone that were not delivered, and no other place is given.
    pub(crate) async fn resume(
        &self,
        webhook: &Arc<Webhook>,
        from: Option<(SessionId, ReplayFrom)>,
    ) -> Result<(), WebhookError> {
        if let Maker::Ended(reason) = self.shared.maker(&webhook.record()) {
            return Err(WebhookError::CannotResume(reason));
        }
        match from {
            Some((session, from)) => self.shared.move_feed(webhook, session, from).await?,
            None => {
                for feed in webhook.all_feeds() {
                    let Ok(log) = self.shared.gateway.events(feed.session).await else { continue };
                    // One session whose log cannot be read keeps no other one waiting.
                    let Ok(EventSpan { oldest, .. }) = log.span().await else { continue };
                    if feed.position() + 1 < oldest {
                        return Err(WebhookError::PositionTrimmed { oldest });
                    }
                }
            }
        }
        self.shared.change(webhook, |record| record.pause.take().is_some()).await?;
        self.shared.begin_anew(webhook);
        webhook.note_change();
        self.shared.wake_webhook(webhook).await;
        Ok(())
    }

    /// Delivers the events of a session again, from this place on.
    ///
    /// # Errors
    /// [`WebhookError::CannotResume`], [`WebhookError::PositionTrimmed`], [`WebhookError::NotYet`], [`WebhookError::InFuture`],
    /// [`WebhookError::OtherSession`].
    pub(crate) async fn replay(
        &self,
        webhook: &Arc<Webhook>,
        session: SessionId,
        from: ReplayFrom,
    ) -> Result<(), WebhookError> {
        if let Maker::Ended(reason) = self.shared.maker(&webhook.record()) {
            return Err(WebhookError::CannotResume(reason));
        }
        self.shared.move_feed(webhook, session, from).await?;
        webhook.note_change();
        self.shared.wake_webhook(webhook).await;
        Ok(())
    }
}

impl Shared {
    async fn check_destination(&self, url: &str) -> Result<(), WebhookError> {
        let url = Url::parse(url).map_err(|_| WebhookError::Destination(FetchError::NotHttp))?;
        self.client.check(&url).await.map_err(WebhookError::Destination)
    }

    fn check_count(&self, sessions: &Sessions) -> Result<(), WebhookError> {
        let table = self.table();
        let Sessions::One(session) = sessions else {
            let is_of_several = |webhook: &&Arc<Webhook>| !matches!(webhook.record.load().sessions, Sessions::One(_));
            let count = table.by_id.values().filter(is_of_several).count();
            return if count < OF_SEVERAL_MAX { Ok(()) } else { Err(WebhookError::TooManyOfSeveral(count)) };
        };
        let belongs = |webhook: &&Arc<Webhook>| webhook.record.load().sessions == *sessions;
        let count = table.of(*session).filter(belongs).count();
        if count < OF_SESSION_MAX { Ok(()) } else { Err(WebhookError::TooManyOfSession(count)) }
    }

    /// The sessions that there are now.
    fn sessions_of(&self, sessions: &Sessions) -> Vec<SessionId> {
        match sessions {
            Sessions::One(session) => vec![*session],
            Sessions::Several(some) => some.clone(),
            Sessions::All => self.gateway.sessions().iter().map(|session| session.id).collect(),
        }
    }

    /// Where the record is stored.
    fn home(&self, sessions: &Sessions) -> Result<SessionNumber, CommandError> {
        match sessions {
            Sessions::One(session) => self.gateway.number(*session),
            Sessions::Several(_) | Sessions::All => Ok(SessionNumber::DAEMON),
        }
    }

    /// Writes a new webhook, its record last.
    async fn store_new(&self, webhook: &Webhook) -> Result<(), WebhookError> {
        let (record, feeds) = (webhook.record(), webhook.all_feeds());
        for some in feeds.chunks(BATCH_OPERATIONS_MAX) {
            let mut batch = Batch::new();
            for feed in some {
                let position = StoredPosition { number: feed.position(), tried_at: None };
                rows::put_position(&mut batch, feed.number, webhook.id, position);
            }
            self.store.commit(batch).await?;
        }
        let mut batch = Batch::new();
        rows::put_record(&*self.store, &mut batch, self.home(&record.sessions)?, &record)?;
        Ok(self.store.commit(batch).await?)
    }

    /// Changes a webhook's record, when `change` says that it did. Returns that.
    pub(super) async fn change(
        &self,
        webhook: &Arc<Webhook>,
        change: impl FnOnce(&mut WebhookRecord) -> bool,
    ) -> Result<bool, WebhookError> {
        let _writing = self.writing.lock().await;
        if webhook.is_removed() {
            return Err(WebhookError::NotFound(webhook.id.to_string()));
        }
        let mut record = WebhookRecord::clone(&webhook.record());
        if !change(&mut record) {
            return Ok(false);
        }
        let mut batch = if record.is_delivering() { Batch::new() } else { Batch::for_removal() };
        rows::put_record(&*self.store, &mut batch, self.home(&record.sessions)?, &record)?;
        self.store.commit(batch).await?;
        webhook.record.store(Arc::new(record));
        webhook.note_change();
        Ok(true)
    }

    /// What failed is tried as if it were new.
    fn begin_anew(&self, webhook: &Webhook) {
        for feed in webhook.all_feeds() {
            feed.begin_anew(Timestamp::now());
            self.note_unsaved(&feed);
        }
    }

    /// Has a webhook go on everywhere.
    async fn wake_webhook(self: &Arc<Self>, webhook: &Arc<Webhook>) {
        for session in self.sessions_of(&webhook.record().sessions) {
            if let Ok(latest) = self.latest(session).await {
                self.wake(webhook, session, latest);
            }
        }
    }

    /// Sets where a session's events go on.
    async fn move_feed(
        &self,
        webhook: &Arc<Webhook>,
        session: SessionId,
        from: ReplayFrom,
    ) -> Result<(), WebhookError> {
        if !webhook.is_of(session) {
            return Err(WebhookError::OtherSession);
        }
        let (number, log) = (self.gateway.number(session)?, self.gateway.events(session).await?);
        let span = log.span().await?;
        let first = match from {
            ReplayFrom::Number(number) => number,
            ReplayFrom::Time(time) if time > Timestamp::now() => return Err(WebhookError::InFuture),
            ReplayFrom::Time(time) => log.first_since(time, span).await?,
        };
        if first < span.oldest {
            return Err(WebhookError::PositionTrimmed { oldest: span.oldest });
        }
        if first > span.latest + 1 {
            return Err(WebhookError::NotYet { from: first, latest: span.latest });
        }
        let feed = webhook.feed(session, number);
        let _writing = self.writing.lock().await;
        if webhook.is_removed() {
            return Err(WebhookError::NotFound(webhook.id.to_string()));
        }
        let mut batch = Batch::new();
        let position = StoredPosition { number: first - 1, tried_at: feed.tried_at() };
        rows::put_position(&mut batch, number, webhook.id, position);
        self.store.commit(batch).await?;
        feed.move_to(first - 1, span.latest);
        feed.begin_anew(Timestamp::now());
        self.note_unsaved(&feed);
        Ok(())
    }

    fn forget_unsaved(&self, feed: &Feed) {
        let mut unsaved = self.unsaved.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        unsaved.remove(&(feed.webhook, feed.session));
    }
}

//! The device record: identity, Noise key, counters. One JSON record per session.

use async_trait::async_trait;
use wacore::stats::StorageResourceReport;
use wacore::store::Device;
use wacore::store::error::Result;
use wacore::store::traits::DeviceStore;

use super::SessionBackend;
use super::rows::{from_json, to_json};
use rookery_store::{Table, layout};

#[async_trait]
impl DeviceStore for SessionBackend {
    async fn save(&self, device: &Device) -> Result<()> {
        self.rows.put_record(Table::Device, layout::DEVICE, &to_json(device)?).await
    }

    async fn load(&self) -> Result<Option<Device>> {
        let bytes = self.rows.get_record(Table::Device, layout::DEVICE)?;
        bytes.map(|bytes| from_json(Table::Device, &bytes)).transpose()
    }

    async fn exists(&self) -> Result<bool> {
        Ok(self.rows.get_record(Table::Device, layout::DEVICE)?.is_some())
    }

    /// Makes fresh keys unless there is a device. The number returned is the session's.
    async fn create(&self) -> Result<i32> {
        if !self.exists().await? {
            self.save(&Device::new()).await?;
        }
        Ok(i32::try_from(self.rows.session().0).unwrap_or(i32::MAX))
    }

    /// No memory of its own: the page cache is the daemon's, not the session's.
    async fn resource_report(&self) -> StorageResourceReport {
        StorageResourceReport { memory_bytes: Some(0), ..StorageResourceReport::default() }
    }
}

//! The backend for tests that reports every call. So a test can make a call fail, or act at that moment.

use std::fmt;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// A call to the store, just before or after it is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Put(String),
    Get(String),
    List(String),
    Delete(String),
}

/// The moment of a report: before or after a call is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    Before,
    After,
}

/// The function that receives the reports. It returns true if the call goes on; otherwise the call fails.
pub(crate) type Watch = Arc<dyn Fn(When, &Call) -> bool + Send + Sync>;

pub(crate) struct Watched {
    pub inner: Arc<dyn ObjectStore>,
    pub watch: Watch,
}

impl Watched {
    async fn tell(&self, when: When, call: &Call) -> Result<()> {
        tell(&self.watch, when, call).await
    }
}

/// Reports a call on another thread. A test may wait in its function, and the thread that drives the store
/// must not wait.
async fn tell(watch: &Watch, when: When, call: &Call) -> Result<()> {
    let (watch, told) = (watch.clone(), call.clone());
    if tokio::task::spawn_blocking(move || watch(when, &told)).await.unwrap_or(false) {
        return Ok(());
    }
    let source = format!("a fault of the test, {when:?} {call:?}").into();
    Err(object_store::Error::Generic { store: "test", source })
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watched")
    }
}

impl fmt::Display for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("watched")
    }
}

#[async_trait::async_trait]
impl ObjectStore for Watched {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let call = Call::Put(path.to_string());
        self.tell(When::Before, &call).await?;
        let done = self.inner.put_opts(path, payload, options).await?;
        self.tell(When::After, &call).await?;
        Ok(done)
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        let call = Call::Get(path.to_string());
        self.tell(When::Before, &call).await?;
        let done = self.inner.get_opts(path, options).await?;
        self.tell(When::After, &call).await?;
        Ok(done)
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let (inner, watch) = (self.inner.clone(), self.watch.clone());
        let delete = move |path: Result<Path>| {
            let (inner, watch) = (inner.clone(), watch.clone());
            async move {
                let path = path?;
                let call = Call::Delete(path.to_string());
                tell(&watch, When::Before, &call).await?;
                inner.delete(&path).await?;
                tell(&watch, When::After, &call).await?;
                Ok(path)
            }
        };
        paths.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let call = Call::List(prefix.map(Path::to_string).unwrap_or_default());
        self.tell(When::Before, &call).await?;
        let done = self.inner.list_with_delimiter(prefix).await?;
        self.tell(When::After, &call).await?;
        Ok(done)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

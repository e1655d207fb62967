//! GraphQL questions by document id. The engine's own request loses the code of a refusal.

use anyhow::anyhow;
use serde_json::Value;
use wacore::iq::mex::{MexDoc, MexQuerySpec, MexResponse};
use wacore::iq::spec::IqSpec;
use wacore::request::InfoQuery;
use wacore_binary::NodeRef;

use super::{Engine, EngineError};

impl Engine {
    /// Asks, or has something changed; the data of the answer.
    pub(super) async fn ask_mex(&self, doc: MexDoc, variables: &impl serde::Serialize) -> Result<Value, EngineError> {
        let request = MexQuerySpec::new(doc, variables).map_err(|error| EngineError::Invalid(error.to_string()))?;
        let answer = self.client.execute(Mex(request)).await?;
        if let Some(fatal) = answer.fatal_error() {
            let code = fatal.error_code().and_then(|code| u16::try_from(code).ok()).unwrap_or(500);
            return Err(EngineError::Refused { code, backoff_s: None });
        }
        Ok(answer.data.unwrap_or_default())
    }
}

/// A GraphQL request that keeps the code of a refusal: the engine's own request turns it into a text.
struct Mex(MexQuerySpec);

impl IqSpec for Mex {
    type Response = MexResponse;

    fn build_iq(&self) -> InfoQuery<'static> {
        self.0.build_iq()
    }

    fn parse_response(&self, response: &NodeRef<'_>) -> anyhow::Result<Self::Response> {
        let result = response.get_optional_child("result").ok_or_else(|| anyhow!("the answer has no <result>"))?;
        let text = result.content_as_string().ok_or_else(|| anyhow!("the <result> is empty"))?;
        Ok(serde_json::from_str(&text)?)
    }
}

use crate::cni::error::Result;
use crate::cni::request::Request;
use crate::cni::result::AddResult;
pub fn add(_: &Request) -> Result<AddResult> {
    Ok(AddResult::default())
}
pub fn del(_: &Request) -> Result<()> {
    Ok(())
}
pub fn check(_: &Request) -> Result<()> {
    Ok(())
}
pub fn status(_: &Request) -> Result<()> {
    Ok(())
}
pub fn gc(_: &Request) -> Result<()> {
    Ok(())
}

//! Sets the linker flags of an addon for Node.

fn main() {
    napi_build::setup();
    if std::env::var("CARGO_CFG_TARGET_VENDOR").as_deref() == Ok("apple") {
        // Otherwise the addon's name in it is the path where it was built.
        println!("cargo:rustc-cdylib-link-arg=-Wl,-install_name,@rpath/tenure.node");
    }
}

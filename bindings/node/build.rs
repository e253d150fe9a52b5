//! Tells the linker how Node loads an addon.

fn main() {
    napi_build::setup();
}

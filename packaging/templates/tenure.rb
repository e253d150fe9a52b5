class Tenure < Formula
  desc "Lock between programs that knows its holder"
  homepage "@URL@"
  version "@VERSION@"
  license any_of: ["MIT", "Apache-2.0"]

@BREW_SYSTEMS@

  def install
    bin.install "tenure"
    man1.install Dir["man/man1/*.1"]
    bash_completion.install "completions/tenure.bash" => "tenure"
    zsh_completion.install "completions/_tenure"
    fish_completion.install "completions/tenure.fish"
  end
@BREW_CAVEATS@
  test do
    assert_match version.to_s, shell_output("#{bin}/tenure --version")
    system bin/"tenure", "run", testpath/"data", "--", "true"
  end
end

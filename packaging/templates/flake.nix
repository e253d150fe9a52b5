{
  description = "Lock between programs that knows its holder";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { nixpkgs, ... }:
    let
      archives = {
@NIX_ARCHIVES@
      };
      package =
        system: archive:
        let
          pkgs = nixpkgs.legacyPackages.${system};
        in
        pkgs.stdenvNoCC.mkDerivation {
          pname = "tenure";
          version = "@VERSION@";
          src = pkgs.fetchurl archive;
          nativeBuildInputs = [ pkgs.installShellFiles ];
          dontStrip = true;
          installPhase = ''
            install -Dm755 tenure -t $out/bin
            installManPage man/man1/*.1
            installShellCompletion --bash completions/tenure.bash --zsh completions/_tenure --fish completions/tenure.fish
            install -Dm644 LICENSE-MIT LICENSE-APACHE THIRD-PARTY-LICENSES -t $out/share/licenses/tenure
          '';
          meta = {
            description = "Lock between programs that knows its holder";
            homepage = "@URL@";
            license = with pkgs.lib.licenses; [ mit asl20 ];
            mainProgram = "tenure";
            platforms = builtins.attrNames archives;
          };
        };
    in
    {
      packages = builtins.mapAttrs (system: archive: { default = package system archive; }) archives;
    };
}

# source /release_setup.sh: the release's programs, libraries and headers are found from then on.
PATH="$AnalysisBase_DIR/bin:$PATH"
LD_LIBRARY_PATH="$AnalysisBase_DIR/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
LIBRARY_PATH="$AnalysisBase_DIR/lib"
CPATH="$AnalysisBase_DIR/include"
export PATH LD_LIBRARY_PATH LIBRARY_PATH CPATH
echo "Configured $(analysis-release) in $AnalysisBase_DIR"

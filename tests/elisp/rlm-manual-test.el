;;; rlm-manual-test.el --- Tests that the manual becomes one of Info  -*- lexical-binding: t; -*-

;; This program is free software: you can redistribute it and/or modify
;; it under the terms of the GNU General Public License as published by
;; the Free Software Foundation, either version 3 of the License, or
;; (at your option) any later version.

;; This program is distributed in the hope that it will be useful,
;; but WITHOUT ANY WARRANTY; without even the implied warranty of
;; MERCHANTABILITY or FITNESS FOR A PARTICULAR PURPOSE.  See the
;; GNU General Public License for more details.

;; You should have received a copy of the GNU General Public License
;; along with this program.  If not, see <https://www.gnu.org/licenses/>.

;;; Commentary:

;; The manual is exported in an Emacs of its own, as who builds the package
;; does; where makeinfo is installed, what comes out has to please that too.

;;; Code:

(require 'rlm-test-lib)

(ert-deftest rlm-manual-becomes-info ()
  (rlm-test-with
    (let ((texi (rlm-test-file "rlm.texi"))
          (manual (expand-file-name "elisp/rlm.org" rlm-test-root)))
      (with-temp-buffer
        (should (equal (list 0 "")
                       (list (call-process
                              (expand-file-name invocation-name invocation-directory) nil t nil
                              "-Q" "--batch" "--eval" "(setq gc-cons-threshold 100000000)"
                              manual "--eval"
                              (format "(progn (require 'ox-texinfo)
                                         (org-export-to-file 'texinfo %S))" texi))
                             (buffer-string)))))
      (let ((text (rlm-test-text texi)))
        (dolist (line '("@node Live code" "@direntry" "@bye"))
          (should (string-match-p (concat "^" (regexp-quote line) "$") text)))
        ;; Wide tables say their columns, so that their lines are filled in Info.
        (should (string-match-p "^@multitable @columnfractions" text))
        (should-not (string-match-p "^@multitable {.\\{75,\\}$" text)))
      (when (executable-find "makeinfo")
        (with-temp-buffer
          (should (equal (list 0 "")
                         (list (call-process "makeinfo" nil t nil "--no-split" "-o"
                                             (rlm-test-file "rlm.info") texi)
                               (buffer-string)))))
        (let ((info (rlm-test-text (rlm-test-file "rlm.info"))))
          (should (string-search "\nFile: rlm.info,  Node: Live code" info))
          ;; Nothing is continued in a terminal of 80 columns, but for what Info hides.
          (should-not (seq-filter (lambda (line)
                                    (and (> (string-width line) 79)
                                         (not (string-match-p "\\`File: \\|\^?" line))))
                                  (split-string info "\n"))))))))

(provide 'rlm-manual-test)
;;; rlm-manual-test.el ends here
